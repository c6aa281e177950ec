"""The vocabulary of rich human feedback: the seven outputs, their task strings, variants and splits.

Everything else in the project speaks these names. Source: Liang et al., *Rich Human Feedback for
Text-to-Image Generation*, CVPR 2024, sections 3 and 4.1. The value that carries one image's feedback is
`richhf.feedback.Feedback`.
"""

HEATMAPS = ("implausibility", "misalignment")
SCORES = ("plausibility", "alignment", "aesthetics", "overall")
KEYWORDS = "keywords"
OUTPUTS = (*HEATMAPS, *SCORES, KEYWORDS)

TASK_STRINGS = {
    "implausibility": "implausibility heatmap",
    "misalignment": "misalignment heatmap",
    "plausibility": "plausibility score",
    "alignment": "alignment score",
    "aesthetics": "aesthetics score",
    "overall": "overall score",
    "keywords": "misaligned keywords",
}

MULTI_HEAD = "multi_head"
AUGMENTED_PROMPT = "augmented_prompt"
VARIANTS = (MULTI_HEAD, AUGMENTED_PROMPT)
SPLITS = ("train", "dev", "test")
MISALIGNED_SUFFIX = "_0"
