from __future__ import annotations

import pip_settings

LISTING = """\
:env:.disable-pip-version-check='1'
:env:.find-links='/wheels'
global.cert='/etc/ssl/ca.crt'
global.extra-index-url='file:///a/simple file:///b/simple'
global.find-links='/other'
install.index-url='https://mirror.example/simple'
global.index-url='https://elsewhere.example/simple'
freeze.timeout='10'
"""


def test_variables_win_over_install_over_global() -> None:
    settings = pip_settings.parse(LISTING)
    assert settings["find-links"] == "/wheels"
    assert settings["index-url"] == "https://mirror.example/simple"
    assert "timeout" not in settings, "another command's setting"


def test_uv_is_told_all_of_pips_sources() -> None:
    assert pip_settings.uv_arguments(pip_settings.parse(LISTING), {}) == [
        *("--default-index", "https://mirror.example/simple"),
        *("--index", "file:///a/simple", "--index", "file:///b/simple"),
        *("--find-links", "/wheels"),
        *("--index-strategy", "unsafe-best-match"),
    ]


def test_a_pip_without_settings_leaves_uv_alone() -> None:
    assert pip_settings.uv_arguments(pip_settings.parse("\n"), {}) == []
    assert pip_settings.uv_environment({}, {"A": "b"}) == {"A": "b"}


def test_variables_of_uv_win_over_pips_settings() -> None:
    environ = {"UV_FIND_LINKS": "/mine", "UV_INDEX_URL": "https://mine.example", "UV_INDEX": "https://more.example"}
    assert pip_settings.uv_arguments(pip_settings.parse(LISTING), environ) == []


def test_certificates_and_time_outs_go_by_the_environment() -> None:
    settings = pip_settings.parse("global.cert='/ca.crt'\n:env:.default-timeout='180'\n")
    environment = pip_settings.uv_environment(settings, {"PATH": "/bin"})
    assert environment == {"PATH": "/bin", "SSL_CERT_FILE": "/ca.crt", "UV_HTTP_TIMEOUT": "180"}
    assert pip_settings.uv_environment(settings, {"SSL_CERT_FILE": "/mine"})["SSL_CERT_FILE"] == "/mine"


def test_no_index_and_trusted_hosts() -> None:
    settings = pip_settings.parse("global.no-index='true'\nglobal.trusted-host='a b:8080'\n")
    expected = ["--allow-insecure-host", "a", "--allow-insecure-host", "b:8080", "--no-index"]
    assert pip_settings.uv_arguments(settings, {}) == expected
