"""Making a static model from a teacher."""
