"""What several methods share: placements and modules."""
