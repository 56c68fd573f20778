"""What the code costs, measured side by side in one run."""
