"""No credential gets into a message; what tells one object from another stays."""

import pytest

from curate.storage import public_url, redacted

SECRETS = [
    ("https://user:hunter22@host.org/a.gz", "hunter22"),
    ("https://ghtoken123@host.org/a.gz", "ghtoken123"),
    ("ftp://anna:pass%2Fword@host/x", "anna:pass"),
    ("s3://AKIAIOSFODNN7EXAMPLE:wJalrXUtnFEMI@bucket/key", "wJalrXUtnFEMI"),
    ("https://b.s3.amazonaws.com/k?X-Amz-Credential=AKIA%2F1&X-Amz-Signature=deadbeef&x=1", "deadbeef"),
    ("https://b.s3.amazonaws.com/k?X-Amz-Security-Token=IQoJb3JpZ2lu&x=1", "IQoJb3JpZ2lu"),
    (
        "https://b.s3.amazonaws.com/k?AWSAccessKeyId=AKIDEXAMPLE&Signature=vjbyPxybdZaNmGa%3D&Expires=117",
        "vjbyPxybdZaNmGa",
    ),
    ("https://storage.googleapis.com/b/o?X-Goog-Signature=0a1b2c&X-Goog-Date=2", "0a1b2c"),
    ("https://acc.blob.core.windows.net/c/b?sv=2022&sig=Zm9vYmFy%3D&sr=b", "Zm9vYmFy"),
    ("https://h/x?access_token=ya29.abc&file=1", "ya29.abc"),
    ("https://h/x?api_key=0123456789&file=1", "0123456789"),
    ("S3FileSystem(key='AKIAIOSFODNN7EXAMPLE', secret='abcdefgh12345678')", "abcdefgh12345678"),
    ("aws_secret_access_key = wJalrXUtnFEMI/K7MDENG", "wJalrXUtnFEMI"),
    ('{"token": "sometoken99"}', "sometoken99"),
    ("Authorization: Bearer abc.def.ghi-123", "abc.def.ghi"),
    ("error for hf_abcdefghijklmnopqrstuvwx in header", "hf_abcdefghij"),
    ("found AKIAIOSFODNN7EXAMPLE there", "AKIAIOSFODNN7EXAMPLE"),
    ("-----BEGIN PRIVATE KEY-----\nMIIEvQ\n-----END PRIVATE KEY-----", "MIIEvQ"),
]


@pytest.mark.parametrize(("text", "secret"), SECRETS)
def test_a_credential_is_hidden(text: str, secret: str) -> None:
    assert secret in text and secret not in redacted(text)
    assert secret not in redacted(f"GET {text!r} failed: see '{text}', then again {text}.")


@pytest.mark.parametrize(
    "text",
    [
        "s3://bucket/a/b.parquet",
        "hf://datasets/owner/name@main/data/*.parquet",
        "https://host.org/get?id=7&page=2",
        "Stage read warc, part 3, file crawl/1.warc.gz: the record at 17 ends early",
        "mail user@host.org about https://host.org/x",
        "unexpected token: <",
    ],
)
def test_what_is_no_credential_stays(text: str) -> None:
    assert redacted(text) == text == public_url(text)


def test_a_link_signed_anew_keeps_its_public_name() -> None:
    links = [f"https://h/k.gz?X-Amz-Date={day}&X-Amz-Signature={day}abc&part=1" for day in ("20250101", "20250102")]
    assert public_url(links[0]) == public_url(links[1]) != public_url(links[0].replace("part=1", "part=2"))


def test_secrets_of_the_environment_are_hidden_wherever_they_stand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "/odd+secret/of=mine")
    monkeypatch.setenv("HF_TOKEN", "neverseen1234")
    assert redacted("signed with /odd+secret/of=mine (neverseen1234)") == "signed with *** (***)"
