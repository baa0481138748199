"""What the controller shows over HTTP: metrics and health. Reads values, holds nothing, changes nothing."""
