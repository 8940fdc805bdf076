"""The explorer: a server on this computer and its page, on which units are clicked, switched off, and the decision moves."""
