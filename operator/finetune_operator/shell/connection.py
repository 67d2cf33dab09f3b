"""The way to the API server: address, credentials and proxy. The operator and `finetune-api` call it at their start."""

from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from kubernetes.aio import config
from kubernetes.aio.client.configuration import Configuration


async def connect() -> Configuration:
    """The API server's address and credentials."""
    try:
        config.load_incluster_config()
    except config.ConfigException:
        await config.load_kube_config()
    found = Configuration.get_default_copy()
    # Each watch holds a connection: a limit on all of them would let the watches keep everything else waiting.
    found.connection_pool_maxsize = 0
    # The session would look for a proxy and for a .netrc at each request, in threads that wait for a busy loop.
    found.client_session_kwargs = {"trust_env": False}
    found.proxy = found.proxy or proxy_of(found.host)
    return found


def proxy_of(address: str) -> str | None:
    """The proxy on the way to an address, by the variables that every client minds: HTTPS_PROXY, NO_PROXY."""
    parts = urlsplit(address)
    return None if proxy_bypass(parts.netloc) else getproxies().get(parts.scheme)
