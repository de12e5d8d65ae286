"""From raw footage to a working In-Context LoRA: the science, without an orchestrator."""
