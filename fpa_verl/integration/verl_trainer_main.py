"""Installed as `verl/trainer/main.py`, which verl 0.9.1 does not have: `python -m verl.trainer.main`."""

from fpa_verl.integration.command.launch import main

if __name__ == "__main__":
    main()
