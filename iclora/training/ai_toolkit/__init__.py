"""Import and export of AI-Toolkit configuration files.

Keys have the semantics of ostris/ai-toolkit at commit 27a03a91. AI-Toolkit silently ignores unknown
keys; iclora reports them.
"""

from __future__ import annotations

from iclora.training.ai_toolkit.explain import explain
from iclora.training.ai_toolkit.export import export_ai_toolkit
from iclora.training.ai_toolkit.read import ToolkitJob, read_ai_toolkit

__all__ = ["ToolkitJob", "explain", "export_ai_toolkit", "read_ai_toolkit"]
