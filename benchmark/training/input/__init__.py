"""The input path: decoded once into memory-mapped bytes, cropped and resampled in batches on the trial's device."""
