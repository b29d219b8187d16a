"""Looking at what a static model has learned."""
