"""Bad manifests, for `bad_manifests`: baselines behind endpoints of their own."""

from manifests import Bad

EVALUATION = "spec.evaluation"
TEST = {"spec.dataset.test": {"fraction": 0.1}}
CREDENTIALS = {"secretRef": {"name": "openai"}}
ENDPOINT = {"type": "endpoint", "url": "https://api/v1", "model": "large"}

ENDPOINTS = [
    *(
        Bad(what, {**TEST, EVALUATION: {"baselines": baselines} | more}, f"{EVALUATION}.baselines{named}", allowed)
        for what, baselines, named, allowed, more in (
            (
                "an endpoint without a URL",
                [{"type": "endpoint", "model": "large"}],
                "[0].url",
                "is what type endpoint asks: give the URL of an OpenAI-compatible endpoint, such as https://HOST/v1",
                {},
            ),
            (
                "an endpoint without a model",
                [{"type": "endpoint", "url": "https://api/v1"}],
                "[0].model",
                "is what type endpoint asks for: give the model's name at the endpoint",
                {},
            ),
            *(
                (
                    f"the endpoint {url}",
                    [{**ENDPOINT, "url": url}],
                    "[0].url",
                    "must be the URL of an OpenAI-compatible endpoint, such as https://HOST/v1",
                    {},
                )
                for url in ("api/v1", "ftp://api/v1", "https://user:password@api/v1", "https://api/v1?key=secret", "")
            ),
            *(
                (
                    f"{field} of the base model",
                    [{"type": "zero-shot", field: value}],
                    "[0]",
                    "has url, model, name, credentials or prices, which go with type endpoint only: remove them, or "
                    "choose it",
                    {},
                )
                for field, value in (
                    ("url", "https://api/v1"),
                    ("model", "large"),
                    ("name", "mine"),
                    ("credentials", CREDENTIALS),
                    ("prices", {"millionPromptTokens": 1, "millionCompletionTokens": 1}),
                )
            ),
            (
                "examples at an endpoint",
                [{**ENDPOINT, "examples": 4}],
                "[0].examples",
                "goes with type few-shot only",
                {},
            ),
            (
                "rows at an endpoint",
                [{**ENDPOINT, "topK": 4}],
                "[0].topK",
                "goes with type retrieval only",
                {},
            ),
            *(
                (
                    f"an endpoint called {fields}",
                    [{**ENDPOINT, **fields}],
                    "[0].name",
                    "is another contender's in reports, or the model is called so: give the endpoint a name of its own",
                    {},
                )
                for fields in ({"name": "tuned"}, {"model": "few-shot"})
            ),
            *(
                (
                    f"two endpoints of one name, {first} and {second}",
                    [{**ENDPOINT, **first}, {"type": "zero-shot"}, {**ENDPOINT, "url": "https://b/v1", **second}],
                    "",
                    "has two endpoints that reports would call the same: give each a name of its own",
                    {},
                )
                for first, second in (({}, {}), ({"name": "a"}, {"name": "a"}), ({}, {"name": "large", "model": "b"}))
            ),
            *(
                (
                    f"an endpoint whose likelihoods decide, {more}",
                    [ENDPOINT],
                    "",
                    "has an endpoint, which tells no likelihoods, and inverse_perplexity or reward_accuracy decides: "
                    "put another metric first, or name it in gate.metric",
                    more,
                )
                for more in (
                    {"metrics": ["inverse_perplexity"]},
                    {"metrics": ["reward_accuracy"]},
                    {"metrics": ["rouge_l", "inverse_perplexity"], "gate": {"metric": "inverse_perplexity"}},
                )
            ),
            (
                "an endpoint that pays",
                [{**ENDPOINT, "prices": {"millionPromptTokens": -1, "millionCompletionTokens": 1}}],
                "[0].prices.millionPromptTokens",
                "greater than or equal to 0",
                {},
            ),
        )
    ),
    Bad(
        "a price of half of the tokens",
        {**TEST, EVALUATION: {"baselines": [{**ENDPOINT, "prices": {"millionPromptTokens": 1}}]}},
        f"{EVALUATION}.baselines[0].prices.millionCompletionTokens",
        server="Required",
        local="is required",
    ),
]
