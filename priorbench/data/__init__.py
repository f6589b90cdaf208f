"""Images, split once into train, validation and test."""
