"""What several test modules use: small worlds, small runs, and plugins with planted faults."""

from pathlib import Path

FOLDER = Path(__file__).parent
