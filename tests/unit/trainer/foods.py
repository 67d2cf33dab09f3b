"""A task of lm-evaluation-harness, and its rows."""

TASK = {
    "task": "foods",
    "dataset_path": "json",
    "dataset_kwargs": {"data_files": {"test": "foods.jsonl"}},
    "test_split": "test",
    "output_type": "multiple_choice",
    "doc_to_text": "{{asked}}",
    "doc_to_choice": "{{choices}}",
    "doc_to_target": "right",
    "metric_list": [{"metric": "acc", "aggregation": "mean", "higher_is_better": True}],
}
# The right one is the shorter, which is likelier where each token has its price, and the second, which no tie goes to.
ROWS = [{"asked": f"{number} eggs", "choices": ["egg flour rice", "egg"], "right": 1} for number in range(4)]
