"""The console: pages over an App, for people. It shows what the rooms below know and changes nothing."""

from __future__ import annotations

from assay.app import App
from assay.console.asgi import ASGIApp
from assay.errors import ConfigError

__all__ = ["console"]

_EXTRA = frozenset({"jinja2", "markupsafe", "vl_convert"})


def console(app: App) -> ASGIApp:
    """The pages of `app` as an ASGI application, to be served at the root of a host.

    Raises ConfigError when the extra `console` is not installed.
    """
    try:
        from assay.console.site import site
    except ModuleNotFoundError as error:
        if error.name not in _EXTRA:
            raise
        raise ConfigError(
            f"The console needs {error.name}, which is not installed: pip install 'assay[console]'"
        ) from error
    return site(app)
