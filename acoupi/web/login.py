"""The pages on which one logs in, and chooses a password."""

from html import escape

from acoupi.config.page_keys import LEAST_LENGTH

__all__ = ["login_page", "password_page"]

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta name="color-scheme" content="light dark">
<title>{title} - acoupi</title>
<link rel="icon" href="{base}/static/icon.svg" type="image/svg+xml">
<link rel="stylesheet" href="{base}/static/page.css">
</head>
<body>
<main id="main">
<h1>{title}</h1>
{trouble}
{form}
</main>
</body>
</html>
"""
_LOGIN = """<form method="post" action="{base}/login">
<input type="hidden" name="then" value="{then}">
<p><label>{key} <input name="password" type="password" required
autocomplete="current-password"></label></p>
<p><button>Log in</button></p>
</form>
<p>If you have none, {way_in}</p>"""
_CHOOSE = """<p>It replaces the token and the earlier password.</p>
<form method="post" action="{base}/password">
<input type="hidden" name="csrf" value="{csrf}">
<p><label>Current password, or the token that the sensor printed
<input name="password" type="password" required
autocomplete="current-password"></label></p>
<p><label>New password, at least {least} characters <input name="new" type="password" required
minlength="{least}" autocomplete="new-password"></label></p>
<p><button>Change it</button> <a href="{base}/">Not now</a></p>
</form>"""


def login_page(base: str, trouble: str, then: str, key: str, way_in: str) -> str:
    """Return it.

    Parameters
    ----------
    base
        The path of the page.
    trouble
        What went wrong before; "" for nothing.
    then
        Where to go.
    key
        What is to be given, in words.
    way_in
        What to do without it: words, and after a colon a command.
    """
    words, _, command = way_in.partition(": ")
    told = f"{escape(words)}: <code>{escape(command)}</code>"
    form = _LOGIN.format(base=escape(base), then=escape(then), key=escape(key), way_in=told)
    return _page(base, "Log in", trouble, form)


def password_page(base: str, trouble: str, csrf: str) -> str:
    """Return it; see `login_page`.

    Parameters
    ----------
    csrf
        Of the session.
    """
    form = _CHOOSE.format(base=escape(base), csrf=escape(csrf), least=LEAST_LENGTH)
    return _page(base, "Choose a password", trouble, form)


def _page(base: str, title: str, trouble: str, form: str) -> str:
    told = f'<p class="bad" role="alert">{escape(trouble)}</p>' if trouble else ""
    return _PAGE.format(base=escape(base), title=title, trouble=told, form=form)
