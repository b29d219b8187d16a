"""The Hugging Face Hub: fetching, publishing, accounts, and what is known of a repository. Loaded when needed."""
