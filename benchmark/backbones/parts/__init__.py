"""What several backbone families share: building timm's models, reading weight files, loading them strictly."""
