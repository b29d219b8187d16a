"""The Hugging Face Space: settings, limits, rendering and deployment."""
