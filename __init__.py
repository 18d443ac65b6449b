"""Alloysmith: active learning and optimization of alloys.

A campaign proposes structures (:mod:`alloysmith.generators`), decides which are worth their cost
(:mod:`alloysmith.agents`), labels them (:mod:`alloysmith.oracles`), learns from the labels
(:mod:`alloysmith.surrogates`) and goes round again (:mod:`alloysmith.loop`) until a goal or a budget is met.
"""

__version__ = "0.1.0"
