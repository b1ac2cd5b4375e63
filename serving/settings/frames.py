"""Settings of the frames between ingress replicas and engine replicas."""

from __future__ import annotations

from typing import Literal, Self

from pydantic import Field, SecretStr, model_validator

from serving.settings.base import Section
from serving.settings.problems import several


class FrameSettings(Section):
    """Frames, which carry requests and tokens between ingress replicas and engine replicas."""

    pace_ms: float = Field(
        40.0,
        ge=0,
        le=1000,
        description="Least time between two chunks of a stream, in milliseconds, when 32 or more share an engine "
        "and an ingress replica; in proportion less when fewer do. First tokens go at once.",
    )
    requests: Literal["connection", "call"] = Field(
        "connection",
        description="How requests travel to engine replicas: on the connection that their tokens come on, or as actor "
        "calls of Ray Serve.",
    )
    curve_public_key: str | None = Field(None, description="CurveZMQ key in Z85 that encrypts frames; needs both keys.")
    curve_secret_key: SecretStr | None = Field(None, description="Its secret half; give it as a variable.")

    @model_validator(mode="after")
    def _pair(self) -> Self:
        if (self.curve_public_key is None) != (self.curve_secret_key is None):
            missing = "curve_public_key" if self.curve_public_key is None else "curve_secret_key"
            raise several([((missing,), "is needed too: the two are one pair")])
        for name, key in (("curve_public_key", self.curve_public_key), ("curve_secret_key", self._secret)):
            if key is not None and len(key) != 40:
                raise several([((name,), "should be 40 characters, as zmq.curve_keypair() gives them")])
        return self

    @property
    def _secret(self) -> str | None:
        return None if self.curve_secret_key is None else self.curve_secret_key.get_secret_value()

    @property
    def curve_keys(self) -> tuple[bytes, bytes] | None:
        """Public and secret key, where frames are encrypted."""
        if self.curve_public_key is None or self._secret is None:
            return None
        return self.curve_public_key.encode(), self._secret.encode()
