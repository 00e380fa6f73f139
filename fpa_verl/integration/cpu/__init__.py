"""A CPU platform for verl, so that the real trainer, Ray, FSDP2 and vLLM run without a GPU.

Active only where ``VERL_PLATFORM=cpu`` is set, which `recipes/hardware/cpu.yaml` does.
"""
