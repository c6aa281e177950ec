"""The names that every module of the project speaks: outputs, task strings, variants, splits.

Source: Liang et al., *Rich Human Feedback for Text-to-Image Generation*, CVPR 2024, sections 3 and 4.1.
"""

import difflib

HEATMAPS = ("implausibility", "misalignment")
SCORES = ("plausibility", "alignment", "aesthetics", "overall")
KEYWORDS = "keywords"
OUTPUTS = (*HEATMAPS, *SCORES, KEYWORDS)
VERDICTS = ("has_artifact", "has_misalignment")

TASK_STRINGS = {
    "implausibility": "implausibility heatmap",
    "misalignment": "misalignment heatmap",
    "plausibility": "plausibility score",
    "alignment": "alignment score",
    "aesthetics": "aesthetics score",
    "overall": "overall score",
    "keywords": "misaligned keywords",
}
# Asks for a caption of the image, in the pretraining mixture of section 4.1; no output of the feedback.
CAPTION_TASK_STRING = "caption"

MULTI_HEAD = "multi_head"
AUGMENTED_PROMPT = "augmented_prompt"
VARIANTS = (MULTI_HEAD, AUGMENTED_PROMPT)
SPLITS = ("train", "dev", "test")
MISALIGNED_SUFFIX = "_0"


def choices(name: str, known: tuple[str, ...]) -> str:
    """The end of an error about a wrong name: the near miss, and all that are known."""
    near = difflib.get_close_matches(str(name), known, n=1)
    return (f"did you mean {near[0]!r}? " if near else "") + f"Known: {', '.join(known) or 'none'}."
