"""The web page: jobs for people who would rather look than read, rendered here, live by server-sent events.

`views` makes of a job what is shown, `form` of a form what is asked for, both pure; `place` is all that the routes in
`pages` know of where jobs are. On a cluster that is `api`, a client of this server's own API under the key of whoever
looks; on a laptop `finetune_cli.ui`. `door` lets people in, `render` has the templates.
"""
