"""The harness: config -> plan -> cells -> store -> table."""
