"""Where data sets lie on disk, and how they get there: downloads, checksums, archives."""
