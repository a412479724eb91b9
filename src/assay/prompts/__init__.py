"""Prompts: `.prompt` files, their rendering and versions. The store of versions is assay.prompts.store."""

from __future__ import annotations

from assay.prompts.dotprompt import PromptTemplate, load_prompt, parse_prompt

__all__ = ["PromptTemplate", "load_prompt", "parse_prompt"]
