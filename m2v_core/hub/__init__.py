"""The Hugging Face Hub: downloading, publishing, accounts, and repository metadata. Imported lazily."""
