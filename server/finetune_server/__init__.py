"""`finetune-api`: OpenAI's fine-tuning API over FineTuneJobs, for clients that know no Kubernetes.

`tuning` makes a FineTuneJob of a request and `view` OpenAI's objects of a FineTuneJob, both pure; `cluster`, `files`
and `engines` talk to the API server, the bucket and what serves. No state lives here: replicas answer alike.
"""
