"""Was it worth it? The tuned model and what would be shipped instead answer the same held-out rows.

`stages.evaluate` is the stage; here is what it decides with, each module pure but for what asks (`endpoint`,
`ask`, `likelihood`, `judge`, `remote`, `ranking`, `measuring`) and what runs (`sql`, `benchmarks`).
"""
