"""One frozen tree of settings, read once: defaults, then a TOML file, then VOXTHREAD_* variables, then flags.

Environment names mirror field paths with a double underscore: `VOXTHREAD_LLM__BASE_URL`.
"""

from ipaddress import IPv4Network, IPv6Network
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PlainValidator,
    SecretStr,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SettingsConfigDict,
    TomlConfigSettingsSource,
)

from voxthread.media.nat import PublicAddress, parse_public_address

_ICE_URL = r"^(stuns?:[^\s<>?\"]+|turns?:[^\s<>?\"]+(\?transport=(udp|tcp))?)$"


def _port_range(value: object) -> range:
    if isinstance(value, range):
        return value
    low, dash, high = str(value).partition("-")
    if not (dash and low.isdecimal() and high.isdecimal() and 1024 <= int(low) <= int(high) <= 65535):
        raise ValueError("write the UDP ports as MIN-MAX, within 1024 to 65535")
    return range(int(low), int(high) + 1)


def _public_address(value: object) -> PublicAddress:
    return value if isinstance(value, PublicAddress) else parse_public_address(str(value))


PortRange = Annotated[range, PlainValidator(_port_range)]
NatAddress = Annotated[PublicAddress, PlainValidator(_public_address)]
IceUrl = Annotated[str, Field(pattern=_ICE_URL)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", arbitrary_types_allowed=True)


class HttpConfig(_Section):
    host: str = "127.0.0.1"
    """Address to listen on. Off loopback a key is needed."""
    port: int = Field(default=8080, ge=0, le=65535)
    """Port of HTTP and WebSocket; 0 takes a free one."""
    tls_cert: Path | None = None
    """Certificate chain, PEM. A browser gives its microphone to other hosts over HTTPS only."""
    tls_key: Path | None = None
    """Private key of the certificate, PEM."""
    public_url: str | None = None
    """Base of the absolute `Location`s handed out; None takes the request's own host."""
    cors_origins: tuple[str, ...] = ("*",)
    """Origins whose pages may call; `*` is every one."""
    trusted_proxies: tuple[str, ...] = ()
    """Addresses and networks of proxies whose `X-Forwarded-For` and `-Proto` are believed."""
    calls_per_minute: int = Field(default=120, ge=0)
    """`POST`s to `/whip` from one address, or by one principal; more get 429, 0 is no limit. This machine
    itself is never limited."""
    requests_per_minute: int = Field(default=1_200, ge=0)
    """The same for all other requests to `/whip`, and those refused."""
    max_pending_calls: int = Field(default=20, ge=0)
    """Calls of one address or principal that are answered and not connected yet; more get 429."""
    max_calls: int = Field(default=0, ge=0)
    """Calls of one address or principal at a time; more get 429. 0 is no limit but `media.max_sessions`."""


class MediaConfig(_Section):
    max_sessions: int = Field(default=50, ge=1)
    """More callers get 503 with `Retry-After`."""
    strict_rfc9725: bool = False
    """Answer every offer `recvonly` as RFC 9725 section 4.2 demands; the agent is then not heard."""
    setup_timeout_ms: int = 10_000
    """From the 201 to a connected peer; then the session is gone."""
    interfaces: tuple[str, ...] = ()
    """Network interfaces to receive media at, as shell patterns, `!docker*` excludes; none takes those that
    `http.host` means."""
    udp_ports: PortRange | None = None
    """`MIN-MAX`: media's UDP ports, one for each session and address; more callers get 503. None takes any."""
    nat_1_1: tuple[NatAddress, ...] = ()
    """Behind a 1:1 NAT: the public address that callers are told, or `PUBLIC/PRIVATE` for each of several."""
    nat_keeps_private: bool = False
    """Tell callers the private address too, after the public one."""
    allow_remote_candidates: bool = False
    """Probe the public addresses a client names; off, peers are learnt from their own checks (no SSRF)."""
    probe_networks: tuple[IPv4Network | IPv6Network, ...] = ()
    """Networks whose private addresses are probed as well, e.g. `192.168.0.0/16`."""
    ice_servers: tuple[IceUrl, ...] = ()
    """STUN and TURN servers that callers are told, e.g. `turn:turn.example.org:3478?transport=udp`."""
    turn_secret: SecretStr | None = None
    """What the TURN servers share with this one (coturn's `static-auth-secret`): for credentials per call."""
    turn_ttl_ms: int = Field(default=7_200_000, ge=60_000)
    """How long these are good for; not less than a call may last."""

    @model_validator(mode="after")
    def _has_a_secret_for_turn(self) -> Self:
        if self.turn_secret is None and any(url.startswith("turn") for url in self.ice_servers):
            raise ValueError("a TURN server in ice_servers needs turn_secret")
        return self


class TurnConfig(_Section):
    vad_threshold: float = 0.5
    """Silero probability at which a frame is speech; 0.15 less is needed to stay in it."""
    vad_start_ms: int = 64
    """Speech this long starts an utterance, and has the agent hold while it speaks."""
    vad_pause_ms: int = 96
    """Silence this long has words and verdict made ready, which takes about the rest of `vad_stop_ms`."""
    vad_stop_ms: int = 192
    """Silence this long is the end of speech, and perhaps of the turn."""
    endpoint_ms: int = 500
    """Silence that ends a turn when the end-of-turn model has not said otherwise."""
    complete_endpoint_ms: int = 500
    """Silence that ends a turn behind a question mark if the end-of-turn model was sure all along; a reply
    takes as long to be ready, so that less would gain little."""
    settled_endpoint_ms: int = 560
    """Silence that ends a turn behind a question mark if the end-of-turn model is sure by now and never
    thought otherwise."""
    statement_endpoint_ms: int = 700
    """Silence that ends a turn behind another full stop if the end-of-turn model was sure all along."""
    likely_endpoint_ms: int = 1_000
    """Silence that ends a turn behind a full stop if the end-of-turn model had doubts and has them no more."""
    doubted_endpoint_ms: int = 1_100
    """Silence that ends a turn behind a full stop that the end-of-turn model does not believe in."""
    brief_endpoint_ms: int = 1_100
    """Silence that ends a turn behind a full stop after four words or fewer: as often the beginning of more."""
    open_endpoint_ms: int = 900
    """Silence that ends a turn without a full stop that the end-of-turn model believes in. Where speech-to-text
    writes no punctuation, set it to `complete_endpoint_ms`."""
    dictated_endpoint_ms: int = 1_000
    """Silence that ends a turn behind a number or a spelled letter."""
    dangling_endpoint_ms: int = 1_300
    """Silence that ends a turn behind a word like "my", "and", "um"."""
    incomplete_endpoint_ms: int = 1_500
    """Silence that ends any turn."""
    complete_probability: float = 0.5
    """From here on the end-of-turn model believes in the end."""
    sure_probability: float = 0.9
    """From here on, without exception, it is sure."""
    stt_grace_ms: int = 3_000
    """How long past the endpoint a transcript may take."""
    first_audio_ms: int = 15_000
    """A reply not heard for so long has failed: the caller hears an apology."""
    stall_ms: int = 8_000
    """A reply in which nothing happens for so long has failed."""
    overlap_ms: int = 1_500
    """A caller who speaks this long over the agent interrupts it whatever is said; words may do so before."""
    max_utterance_ms: int = 60_000
    """A caller who does not stop is answered after so long."""
    idle_ms: int = 0
    """After so long without a word the agent asks whether the caller is there, twice at most; 0 never does."""
    filler_ms: int = 0
    """An answer not begun for so long is preceded by a word of patience; 0 says none."""
    max_session_ms: int = Field(default=7_200_000, ge=10_000)
    """A call ends after so long, with a goodbye."""
    speculate: bool = True
    """Start the reply as soon as there is a transcript, before the turn is confirmed."""


class SttConfig(_Section):
    interim_ms: int = 800
    """How often a growing utterance is transcribed for captions; 0 is never."""
    threads: int = 1
    """Threads of one transcription; on two cores a second one does not help."""


class LlmConfig(_Section):
    base_url: str | None = None
    """An OpenAI-compatible endpoint, e.g. https://api.openai.com/v1; None runs the bundled model."""
    api_key: SecretStr | None = None
    """Sent to the endpoint as a bearer token."""
    model: str = "bundled"
    """Name of the endpoint's model; the bundled one has no other."""
    max_tokens: int = 120
    """Of one reply."""
    temperature: float = 0.0
    """0 says the same to the same words, which a takeover in the middle of a reply relies on."""
    timeout_ms: int = 20_000
    """For the first token of the endpoint, and for each one after it."""
    threads: int = 1
    slots: int = 2
    """Replies the bundled model generates at once."""
    context_tokens: int = 2_048
    """Per slot."""


class AuthConfig(_Section):
    key: SecretStr | None = None
    """HS256 secret or PEM public key that bearer tokens are verified with; None on loopback runs open."""
    algorithm: Literal["HS256", "RS256", "ES256"] = "HS256"
    """The one algorithm accepted, whatever a token says of itself."""
    audience: str = "voxthread"
    """What a token must be meant for."""


class BusConfig(_Section):
    url: str | None = None
    """`sqlite:FILE`, or `kafka://host:port,...?name=value` with names from below, no password; None is a SQLite
    file in `state_dir`. `memory` is for `serve --single`."""
    partitions: int = Field(default=8, ge=1, le=4_096)
    """Of a log that is not there yet; sessions are spread over them."""
    topic_prefix: str = ""
    """Kafka: stands before the name of every topic, so that several installations share brokers."""
    security_protocol: Literal["plaintext", "ssl", "sasl_plaintext", "sasl_ssl"] = "plaintext"
    """Kafka."""
    sasl_mechanism: Literal["PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"] = "SCRAM-SHA-512"
    """Kafka."""
    sasl_username: str | None = None
    """Kafka."""
    sasl_password: SecretStr | None = None
    """Kafka; never in the URL."""
    tls_ca_file: Path | None = None
    """Kafka: PEM of who signed the brokers' certificates; None trusts what the system trusts."""
    tls_cert_file: Path | None = None
    """Kafka: PEM certificate that this client shows."""
    tls_key_file: Path | None = None
    """Kafka: private key of that certificate, PEM."""
    replication_factor: int | None = Field(default=None, ge=1)
    """Kafka: of topics made here; None is 3, or as many as there are brokers."""
    append_timeout_ms: int = Field(default=30_000, ge=1_000)
    """Kafka: how long an append waits for brokers that are away."""


class Config(BaseSettings):
    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", env_prefix="VOXTHREAD_", env_nested_delimiter="__", toml_file=None
    )

    http: HttpConfig = HttpConfig()
    media: MediaConfig = MediaConfig()
    turn: TurnConfig = TurnConfig()
    stt: SttConfig = SttConfig()
    llm: LlmConfig = LlmConfig()
    auth: AuthConfig = AuthConfig()
    bus: BusConfig = BusConfig()
    models_dir: Path = Path.home() / ".cache" / "voxthread" / "models"
    """Where `voxthread models pull` puts the bundled models."""
    state_dir: Path = Path.home() / ".local" / "state" / "voxthread"
    """Where a server keeps its log and the record of its roles, in a directory for each port."""
    log_level: Literal["debug", "info", "warning", "error"] = "info"
    """Of Voxthread's own lines; libraries are heard from warnings on."""

    @property
    def site_dir(self) -> Path:
        """What the server on this port keeps."""
        return self.state_dir / f"port-{self.http.port}"

    @property
    def log_url(self) -> str:
        """The log that the roles share."""
        return self.bus.url or f"sqlite:{self.site_dir / 'log.db'}"

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return init_settings, env_settings, TomlConfigSettingsSource(settings_cls)


def read_config(toml_file: Path | None = None, **overrides: Any) -> Config:
    """Read the tree. `overrides` are nested dicts by section. Raises pydantic `ValidationError`."""

    class FromFile(Config):
        model_config = SettingsConfigDict(**{**Config.model_config, "toml_file": toml_file})

    return FromFile(**overrides)
