"""``python -m bridge`` is the command ``bootc-py``."""

from bridge.cli.main import main

if __name__ == "__main__":
    raise SystemExit(main())
