"""What Vertex AI tells a container that it runs, in `AIP_*` variables.

The names and defaults are those of "Custom container requirements for prediction" in the
documentation of Vertex AI.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import unquote, urlsplit


@dataclass(frozen=True)
class Vertex:
    """How Vertex AI reaches the server.

    Attributes:
        http_port: where it sends everything.
        health_route: where it asks whether to send requests.
        predict_route: where it sends them.
    """

    http_port: int
    health_route: str
    predict_route: str

    @classmethod
    def of(cls, environment: Mapping[str, str]) -> Vertex | None:
        """Reads the variables; None if Vertex AI does not run this.

        Raises:
            ValueError: one of them can't be; names it.
        """
        if environment.get("AIP_MODE") != "PREDICTION":
            return None
        endpoint = environment.get("AIP_ENDPOINT_ID", "0")
        deployed = environment.get("AIP_DEPLOYED_MODEL_ID", "0")
        default = f"/v1/endpoints/{endpoint}/deployedModels/{deployed}"
        return cls(
            _port(environment.get("AIP_HTTP_PORT") or "8080"),
            _route("AIP_HEALTH_ROUTE", environment.get("AIP_HEALTH_ROUTE") or default),
            _route(
                "AIP_PREDICT_ROUTE", environment.get("AIP_PREDICT_ROUTE") or f"{default}:predict"
            ),
        )


def stored_models(environment: Mapping[str, str]) -> tuple[str, ...]:
    """The models in the folder that `AIP_STORAGE_URI` names; none if it names none.

    Raises:
        ValueError: there is no model, or the folder can't be read from here; says what helps.
    """
    storage = environment.get("AIP_STORAGE_URI", "")
    if environment.get("AIP_MODE") != "PREDICTION" or not storage:
        return ()
    parts = urlsplit(storage)
    if parts.scheme not in ("", "file"):
        raise ValueError(
            f"AIP_STORAGE_URI is {storage}: models are read from folders only; put the model into "
            "the image and name it in RANKER_MODELS"
        )
    place = Path(unquote(parts.path))
    found = [place] if place.is_file() else sorted(place.glob("*.onnx"))
    if not found:
        raise ValueError(f"AIP_STORAGE_URI is {storage}: no *.onnx there")
    return tuple(map(str, found))


def _port(text: str) -> int:
    if not text.isascii() or not text.isdigit() or not 0 <= int(text) <= 65535:
        raise ValueError(f"AIP_HTTP_PORT: expected a port, got {text!r}")
    return int(text)


def _route(name: str, path: str) -> str:
    if not path.startswith("/") or any(sign in path for sign in "{}?# "):
        raise ValueError(f"{name}: expected a path such as /predict, got {path!r}")
    return path
