"""AI-Toolkit's files, read and written: what people already have, and a way back to it.

The meaning of every key is that of ostris/ai-toolkit at commit 27a03a91 (its config classes read
any key they know and ignore all others; here an unknown key is said to be one).
"""

from __future__ import annotations

from iclora.training.ai_toolkit.explain import explain
from iclora.training.ai_toolkit.export import export_ai_toolkit
from iclora.training.ai_toolkit.read import ToolkitJob, read_ai_toolkit

__all__ = ["ToolkitJob", "explain", "export_ai_toolkit", "read_ai_toolkit"]
