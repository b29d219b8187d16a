"""The Hugging Face Space: its settings and limits, and how to render and deploy it."""
