"""Every Prometheus metric of the system: names, meanings and labels in one place.

Labels have few values each; a session id is never one of them. `/metrics` serves the default registry.
"""

from prometheus_client import Counter, Gauge, Histogram

SESSION_ID_INVALID = Counter(
    "session_id_invalid",
    "Session ids refused, by where, by the dialect expected there (media, frontend) and by the rule broken.",
    ("component", "dialect", "rule"),
)

SESSIONS = Gauge("voxthread_sessions", "Sessions that are open now.")

SESSIONS_CREATED = Counter(
    "voxthread_sessions_created", "Sessions created, by the door they came in by.", ("via",)
)

SESSIONS_CLOSED = Counter("voxthread_sessions_closed", "Sessions closed, by reason.", ("reason",))

EVENT_SOCKETS = Gauge("voxthread_event_sockets", "WebSockets that follow a session now.")

REQUESTS_REFUSED = Counter(
    "voxthread_requests_refused", "Requests answered 4xx or 5xx, by problem code.", ("code",)
)

STAGE_SECONDS = Histogram(
    "voxthread_stage_seconds",
    "Time from the caller's last speech sample until a turn reached a stage.",
    ("stage",),
    buckets=(0.05, 0.1, 0.2, 0.3, 0.4, 0.5, 0.75, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0),
)

STALE_RESULTS_DROPPED = Counter(
    "voxthread_stale_results_dropped",
    "Results of stages that came after their turn or utterance was over, by kind of result.",
    ("kind",),
)

FAILURES = Counter("voxthread_failures", "Failures of a stage of a session.", ("stage", "code"))

BUS_RECORDS_MALFORMED = Counter(
    "voxthread_bus_records_malformed", "Records on the log that could not be decoded.", ("stream",)
)

BUS_RECORDS_FENCED = Counter(
    "voxthread_bus_records_fenced", "Records dropped as duplicates or of an older epoch.", ("stream",)
)

POISON = Counter(
    "voxthread_poison",
    "Work put aside because owners died of it, again and again, by kind (utterance, reply, record, session).",
    ("kind",),
)

AUDIO_DROPPED_SECONDS = Counter(
    "voxthread_audio_dropped_seconds",
    "Audio thrown away because a bounded queue was full, by direction (in, out).",
    ("direction",),
)

PACKETS_LOST = Counter("voxthread_packets_lost", "Caller's RTP packets that never came or came too late.")

PACKETS_RECOVERED = Counter(
    "voxthread_packets_recovered", "Caller's RTP packets that were lost, and came when asked for (NACK)."
)

PACKETS_RESENT = Counter("voxthread_packets_resent", "Our RTP packets that callers asked for again (NACK).")

DATAGRAMS_REFUSED = Counter(
    "voxthread_datagrams_refused",
    "Datagrams at media ports that were dropped, by why: malformed or not authentic (damaged), or unread, "
    "because more came than is looked at (excess).",
    ("reason",),
)

PLAYOUT_UNDERRUNS = Counter(
    "voxthread_playout_underruns", "Times the audio of an unfinished reply ran out while it was being played."
)
