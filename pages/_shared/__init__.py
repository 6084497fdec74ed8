"""What the pages have in common. Nothing here decides anything about photos or models."""
