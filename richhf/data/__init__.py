"""What an example is: records, words and their labels, consolidation of annotations, agreement.

Record files are read and written without TensorFlow.
"""

from richhf.data.agreement import krippendorff_alpha, likert_ratings, score_spread_histogram
from richhf.data.consolidation import (
    Annotation,
    Consolidated,
    consolidate,
    heatmap_to_uint8,
    points_to_heatmap,
)
from richhf.data.records import (
    Record,
    RecordError,
    example_to_record,
    list_record_files,
    read_records,
    record_to_example,
    write_records,
)
from richhf.data.targets import encode_target, find_marks, read_flags
from richhf.data.words import (
    LabelMismatch,
    mark_misaligned,
    match_labels_to_words,
    misaligned_words,
    split_words,
    word_spans,
)

__all__ = [
    "Annotation",
    "Consolidated",
    "LabelMismatch",
    "Record",
    "RecordError",
    "consolidate",
    "encode_target",
    "example_to_record",
    "find_marks",
    "heatmap_to_uint8",
    "krippendorff_alpha",
    "likert_ratings",
    "list_record_files",
    "mark_misaligned",
    "match_labels_to_words",
    "misaligned_words",
    "points_to_heatmap",
    "read_flags",
    "read_records",
    "record_to_example",
    "score_spread_histogram",
    "split_words",
    "word_spans",
    "write_records",
]
