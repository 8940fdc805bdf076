"""How the blocks of each library's vision transformers divide and where their units are; a file a library."""

LIBRARIES = ("timm", "torchvision", "transformers")  # each one's file is read when a model of it comes
