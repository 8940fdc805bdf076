"""How the blocks of each library's vision transformers divide; a file a library, read when a model of it comes."""
