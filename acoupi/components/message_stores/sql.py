"""Every statement of the message store.

A messenger is enlisted for the messages that arrived since it last asked
(`messenger.seen_row`), so pending ones are found without looking at those
delivered. `delivery` repeats the time and id of its message: its index is sorted
by them.
"""

from acoupi.components.stores.database import Schema
from acoupi.components.stores.views import MESSAGE_VIEWS, statements
from acoupi.errors import MessageStoreError

__all__ = ["SCHEMA"]

_VERSION_1 = (
    # AUTOINCREMENT: a row that was removed must not come again below seen_row.
    """
    CREATE TABLE message (
        row INTEGER PRIMARY KEY AUTOINCREMENT,
        id BLOB NOT NULL UNIQUE,
        content NOT NULL,
        message_type TEXT,
        created_on_us INTEGER NOT NULL,
        is_acknowledged INTEGER NOT NULL DEFAULT 0,
        is_closed INTEGER NOT NULL DEFAULT 0
    )
    """,
    """
    CREATE INDEX message_unsent ON message (created_on_us, id) WHERE is_acknowledged = 0
    """,
    """
    CREATE TABLE messenger (
        row INTEGER PRIMARY KEY,
        name TEXT NOT NULL UNIQUE,
        seen_row INTEGER NOT NULL DEFAULT 0
    )
    """,
    """
    CREATE TABLE delivery (
        messenger_row INTEGER NOT NULL REFERENCES messenger (row),
        message_row INTEGER NOT NULL REFERENCES message (row),
        created_on_us INTEGER NOT NULL,
        message_id BLOB NOT NULL,
        state TEXT NOT NULL CHECK (state IN ('pending', 'acknowledged', 'dead')),
        attempts INTEGER NOT NULL DEFAULT 0,
        refusals INTEGER NOT NULL DEFAULT 0,
        next_attempt_on_us INTEGER,
        claimed_until_us INTEGER,
        last_error TEXT,
        updated_on_us INTEGER,
        PRIMARY KEY (messenger_row, message_row)
    ) WITHOUT ROWID
    """,
    """
    CREATE INDEX delivery_pending ON delivery (messenger_row, created_on_us, message_id)
    WHERE state = 'pending'
    """,
    """
    CREATE INDEX delivery_dead ON delivery (messenger_row, created_on_us, message_id)
    WHERE state = 'dead'
    """,
    """
    CREATE TABLE response (
        row INTEGER PRIMARY KEY,
        message_row INTEGER NOT NULL REFERENCES message (row),
        messenger_row INTEGER REFERENCES messenger (row),
        status INTEGER NOT NULL,
        content TEXT,
        received_on_us INTEGER NOT NULL
    )
    """,
    "CREATE INDEX response_message ON response (message_row)",
)

_VERSION_2 = (
    "ALTER TABLE messenger ADD COLUMN refused_since_us INTEGER",
    "ALTER TABLE messenger ADD COLUMN refusal TEXT",
    """
    CREATE INDEX message_acknowledged ON message (created_on_us) WHERE is_acknowledged = 1
    """,
)

_VERSION_3 = (
    # Without it, each message that is removed is looked for among all deliveries.
    "CREATE INDEX delivery_message ON delivery (message_row)",
)

_VERSION_4 = ("ALTER TABLE messenger ADD COLUMN paused_until_us INTEGER",)

_VERSION_5 = (
    # The process that claimed it; see `senders`.
    "ALTER TABLE delivery ADD COLUMN claimed_by INTEGER",
    """
    CREATE INDEX delivery_claimed ON delivery (messenger_row, claimed_by)
    WHERE claimed_until_us IS NOT NULL
    """,
)

_VERSION_6 = statements(MESSAGE_VIEWS)

_VERSION_7 = (
    # A state more, and what a budget needs to know (`outbox`). SQLite changes no CHECK in place.
    "DROP VIEW v_message",
    """
    CREATE TABLE delivery_7 (
        messenger_row INTEGER NOT NULL REFERENCES messenger (row),
        message_row INTEGER NOT NULL REFERENCES message (row),
        created_on_us INTEGER NOT NULL,
        message_id BLOB NOT NULL,
        message_type TEXT,
        state TEXT NOT NULL CHECK (state IN ('pending', 'acknowledged', 'dead', 'expired')),
        attempts INTEGER NOT NULL DEFAULT 0,
        refusals INTEGER NOT NULL DEFAULT 0,
        failures INTEGER NOT NULL DEFAULT 0,
        next_attempt_on_us INTEGER,
        claimed_until_us INTEGER,
        claimed_by INTEGER,
        claimed_bytes INTEGER,
        claimed_excess INTEGER,
        last_error TEXT,
        updated_on_us INTEGER,
        PRIMARY KEY (messenger_row, message_row)
    ) WITHOUT ROWID
    """,
    """
    INSERT INTO delivery_7 (
        messenger_row, message_row, created_on_us, message_id, message_type, state, attempts,
        refusals, next_attempt_on_us, claimed_until_us, claimed_by, last_error, updated_on_us
    )
    SELECT
        d.messenger_row, d.message_row, d.created_on_us, d.message_id, m.message_type, d.state,
        d.attempts, d.refusals, d.next_attempt_on_us, d.claimed_until_us, d.claimed_by,
        d.last_error, d.updated_on_us
    FROM delivery d JOIN message m ON m.row = d.message_row
    """,
    "DROP TABLE delivery",
    "ALTER TABLE delivery_7 RENAME TO delivery",
    """
    CREATE INDEX delivery_pending ON delivery (messenger_row, created_on_us, message_id)
    WHERE state = 'pending'
    """,
    """
    CREATE INDEX delivery_kind
    ON delivery (messenger_row, message_type, created_on_us, message_id) WHERE state = 'pending'
    """,
    """
    CREATE INDEX delivery_dead ON delivery (messenger_row, created_on_us, message_id)
    WHERE state = 'dead'
    """,
    "CREATE INDEX delivery_expired ON delivery (message_row) WHERE state = 'expired'",
    "CREATE INDEX delivery_message ON delivery (message_row)",
    """
    CREATE INDEX delivery_claimed ON delivery (messenger_row, claimed_by)
    WHERE claimed_until_us IS NOT NULL
    """,
    "CREATE INDEX delivery_reserved ON delivery (messenger_row) WHERE claimed_bytes IS NOT NULL",
    "ALTER TABLE messenger ADD COLUMN accepted_on_us INTEGER",
    """
    CREATE TABLE traffic (
        messenger_row INTEGER NOT NULL REFERENCES messenger (row),
        day INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        excess INTEGER NOT NULL,
        PRIMARY KEY (messenger_row, day)
    ) WITHOUT ROWID
    """,
    *statements(MESSAGE_VIEWS),
)

SCHEMA = Schema(
    store="message store",
    application_id=0x61634D53,  # "acMS"
    migrations=(
        _VERSION_1,
        _VERSION_2,
        _VERSION_3,
        _VERSION_4,
        _VERSION_5,
        _VERSION_6,
        _VERSION_7,
    ),
    peer_tables=frozenset({"message", "response"}),
    error=MessageStoreError,
)

# Messages

ADD_MESSAGE = """
    INSERT INTO message (id, content, message_type, created_on_us)
    VALUES (:id, :content, :message_type, :created_on)
    ON CONFLICT (id) DO NOTHING
"""

ROW_OF_MESSAGE = "SELECT row FROM message WHERE id = :id"

_MESSAGE = "SELECT m.row, m.id, m.content, m.message_type, m.created_on_us"

_UNSENT = f"{_MESSAGE} FROM message m INDEXED BY message_unsent WHERE m.is_acknowledged = 0"

UNSENT = {
    "oldest_first": f"{_UNSENT} ORDER BY m.created_on_us, m.id LIMIT :limit",
    "newest_first": f"{_UNSENT} ORDER BY m.created_on_us DESC, m.id DESC LIMIT :limit",
}

NEWEST = f"""
    {_MESSAGE} FROM message m WHERE m.message_type = :message_type ORDER BY m.row DESC LIMIT 1
"""

ACKNOWLEDGE = "UPDATE message SET is_acknowledged = 1 WHERE row = :message_row"

CLOSE = "UPDATE message SET is_acknowledged = 1, is_closed = 1 WHERE row = :message_row"

CLOSE_DELIVERIES = """
    UPDATE delivery
    SET state = 'acknowledged', next_attempt_on_us = NULL, claimed_until_us = NULL,
        last_error = NULL, updated_on_us = :now
    WHERE message_row = :message_row AND state <> 'acknowledged'
"""

# Messengers

ADD_MESSENGER = "INSERT INTO messenger (name) VALUES (:messenger) ON CONFLICT (name) DO NOTHING"

MESSENGER = "SELECT row, seen_row FROM messenger WHERE name = :messenger"

LAST_MESSAGE = "SELECT coalesce(max(row), 0) FROM message"

ENLIST = """
    INSERT INTO delivery (
        messenger_row, message_row, created_on_us, message_id, message_type, state
    )
    SELECT :messenger_row, row, created_on_us, id, message_type, 'pending'
    FROM message
    WHERE row > :seen_row AND NOT is_closed
    ON CONFLICT (messenger_row, message_row) DO NOTHING
"""

SAW = "UPDATE messenger SET seen_row = :last_row WHERE row = :messenger_row"

REFUSAL = "SELECT refused_since_us, refusal FROM messenger WHERE row = :messenger_row"

PUT_REFUSAL = """
    UPDATE messenger SET refused_since_us = :since, refusal = :error WHERE row = :messenger_row
"""

IS_PAUSED = """
    SELECT 1 FROM messenger
    WHERE row = :messenger_row AND paused_until_us BETWEEN :now + 1 AND :longest_pause
"""

PAUSES = """
    SELECT name, paused_until_us FROM messenger
    WHERE paused_until_us BETWEEN :now + 1 AND :longest_pause
    ORDER BY name
"""

PAUSE = "UPDATE messenger SET paused_until_us = :end WHERE row = :messenger_row"

REFUSALS = """
    SELECT name, refused_since_us, refusal FROM messenger
    WHERE refused_since_us IS NOT NULL
    ORDER BY name
"""

# Deliveries

_DUE = f"""
    {_MESSAGE}
    FROM delivery d INDEXED BY delivery_pending
        CROSS JOIN message m ON m.row = d.message_row
    WHERE d.messenger_row = :messenger_row AND d.state = 'pending'
        AND (
            d.next_attempt_on_us IS NULL
            OR d.next_attempt_on_us NOT BETWEEN :now + 1 AND :longest_rest
        )
        AND (
            d.claimed_until_us IS NULL
            OR d.claimed_until_us NOT BETWEEN :now + 1 AND :lease_end
        )
"""

DUE = {
    "oldest_first": f"{_DUE} ORDER BY d.created_on_us, d.message_id LIMIT :limit",
    "newest_first": f"{_DUE} ORDER BY d.created_on_us DESC, d.message_id DESC LIMIT :limit",
}

CLAIM = """
    UPDATE delivery
    SET claimed_until_us = :lease_end, claimed_by = :claimed_by, claimed_bytes = NULL,
        claimed_excess = NULL
    WHERE messenger_row = :messenger_row
        AND message_row IN (SELECT value FROM json_each(:rows))
"""

CLAIMED_BY = """
    SELECT DISTINCT claimed_by FROM delivery INDEXED BY delivery_claimed
    WHERE messenger_row = :messenger_row AND claimed_by IS NOT NULL
        AND claimed_until_us IS NOT NULL
"""

RELEASE_CLAIMS_OF = """
    UPDATE delivery INDEXED BY delivery_claimed SET claimed_until_us = NULL
    WHERE messenger_row = :messenger_row AND claimed_until_us IS NOT NULL
        AND claimed_by IN (SELECT value FROM json_each(:senders))
"""

RELEASE_UNSETTLED = """
    UPDATE delivery SET claimed_until_us = NULL
    WHERE messenger_row = :messenger_row AND state = 'pending' AND claimed_by IS :claimed_by
        AND message_row IN (
            SELECT row FROM message
            WHERE id IN (SELECT acoupi_blob(value) FROM json_each(:ids))
        )
"""

RELEASE = """
    UPDATE delivery
    SET claimed_until_us = NULL, claimed_bytes = NULL, claimed_excess = NULL
    WHERE messenger_row = (SELECT row FROM messenger WHERE name = :messenger)
        AND state = 'pending' AND claimed_until_us IS NOT NULL
        AND message_row IN (
            SELECT row FROM message
            WHERE id IN (SELECT acoupi_blob(value) FROM json_each(:ids))
        )
"""

DELIVERY = """
    SELECT state, attempts, refusals, failures, next_attempt_on_us, claimed_until_us, last_error,
        updated_on_us
    FROM delivery
    WHERE messenger_row = :messenger_row AND message_row = :message_row
"""

IS_CLOSED = "SELECT is_closed FROM message WHERE row = :message_row"

PUT_DELIVERY = """
    INSERT INTO delivery (
        messenger_row, message_row, created_on_us, message_id, message_type, state, attempts,
        refusals, failures, next_attempt_on_us, claimed_until_us, last_error, updated_on_us
    )
    SELECT
        :messenger_row, row, created_on_us, id, message_type, :state, :attempts,
        :refusals, :failures, :next_attempt_on, :claimed_until, :last_error, :updated_on
    FROM message WHERE row = :message_row
    ON CONFLICT (messenger_row, message_row) DO UPDATE SET
        state = excluded.state,
        attempts = excluded.attempts,
        refusals = excluded.refusals,
        failures = excluded.failures,
        next_attempt_on_us = excluded.next_attempt_on_us,
        claimed_until_us = excluded.claimed_until_us,
        last_error = excluded.last_error,
        updated_on_us = excluded.updated_on_us
"""

COUNT_DELIVERIES = """
    SELECT s.name, d.state, count(*)
    FROM delivery d JOIN messenger s ON s.row = d.messenger_row
    GROUP BY d.messenger_row, d.state
"""

COUNT_UNSEEN = """
    SELECT s.name, (
        SELECT count(*) FROM message m
        WHERE m.row > s.seen_row AND NOT m.is_closed AND NOT EXISTS (
            SELECT 1 FROM delivery d WHERE d.messenger_row = s.row AND d.message_row = m.row
        )
    )
    FROM messenger s
"""

OLDEST_WAITING = """
    SELECT min(created_on_us) FROM (
        SELECT min(d.created_on_us) AS created_on_us
        FROM messenger m JOIN delivery d ON d.messenger_row = m.row AND d.state = 'pending'
        WHERE m.name IN (SELECT value FROM json_each(:messengers))
        UNION ALL
        SELECT min(created_on_us) FROM message
        WHERE is_closed = 0 AND row > (
            SELECT min(coalesce(m.seen_row, 0))
            FROM json_each(:messengers) n LEFT JOIN messenger m ON m.name = n.value
        )
    )
"""

DEAD_LETTERS = """
    SELECT s.name, d.attempts, d.last_error, d.updated_on_us,
        m.row, m.id, m.content, m.message_type, m.created_on_us
    FROM messenger s
        CROSS JOIN delivery d INDEXED BY delivery_dead ON d.messenger_row = s.row
        CROSS JOIN message m ON m.row = d.message_row
    WHERE d.state = 'dead' AND (:messenger IS NULL OR s.name = :messenger)
    ORDER BY d.created_on_us, d.message_id, s.name
"""

RETRY = """
    UPDATE delivery
    SET state = 'pending', attempts = 0, refusals = 0, failures = 0, next_attempt_on_us = NULL,
        claimed_until_us = NULL, updated_on_us = :now
    WHERE state = :state AND messenger_row IN (
        SELECT row FROM messenger WHERE :messenger IS NULL OR name = :messenger
    )
"""

# A budget, see `outbox`

CANDIDATES = f"""
    {_MESSAGE}, d.next_attempt_on_us, d.claimed_until_us, d.refusals, d.failures,
        d.updated_on_us, s.accepted_on_us
    FROM delivery d INDEXED BY delivery_kind
        CROSS JOIN message m ON m.row = d.message_row
        CROSS JOIN messenger s ON s.row = d.messenger_row
    WHERE d.messenger_row = :messenger_row AND d.state = 'pending' AND d.message_type IS :kind
"""

CANDIDATES_OF_KIND = {
    "oldest_first": f"{CANDIDATES} ORDER BY d.created_on_us, d.message_id",
    "newest_first": f"{CANDIDATES} ORDER BY d.created_on_us DESC, d.message_id DESC",
}

RESERVE = """
    UPDATE delivery SET claimed_bytes = :bytes, claimed_excess = :excess
    WHERE messenger_row = :messenger_row AND message_row = :message_row
"""

RESERVED = """
    SELECT coalesce(sum(claimed_bytes), 0), coalesce(sum(claimed_excess), 0)
    FROM delivery INDEXED BY delivery_reserved
    WHERE messenger_row = :messenger_row AND claimed_bytes IS NOT NULL
"""

RESERVED_BY_LAPSED = """
    SELECT message_row FROM delivery INDEXED BY delivery_reserved
    WHERE messenger_row = :messenger_row AND claimed_bytes IS NOT NULL
        AND (claimed_until_us IS NULL OR claimed_until_us NOT BETWEEN :now + 1 AND :lease_end)
"""

RESERVED_FOR = """
    SELECT claimed_bytes, claimed_excess FROM delivery
    WHERE messenger_row = :messenger_row AND message_row = :message_row
        AND claimed_bytes IS NOT NULL
"""

UNRESERVE = """
    UPDATE delivery SET claimed_bytes = NULL, claimed_excess = NULL
    WHERE messenger_row = :messenger_row AND message_row = :message_row
"""

ADD_TRAFFIC = """
    INSERT INTO traffic (messenger_row, day, bytes, excess)
    VALUES (:messenger_row, :day, :bytes, :excess)
    ON CONFLICT (messenger_row, day) DO UPDATE SET
        bytes = bytes + excluded.bytes, excess = excess + excluded.excess
"""

TRAFFIC = """
    SELECT day, bytes, excess FROM traffic
    WHERE messenger_row = :messenger_row AND day <= :today
    ORDER BY day
"""

TRAFFIC_OF_DAY = """
    SELECT s.name, t.bytes + t.excess FROM traffic t JOIN messenger s ON s.row = t.messenger_row
    WHERE t.day = :day
    ORDER BY s.name
"""

ACCEPTED = "UPDATE messenger SET accepted_on_us = :now WHERE row = :messenger_row"

EXPIRE = """
    UPDATE delivery INDEXED BY delivery_kind
    SET state = 'expired', next_attempt_on_us = NULL, claimed_until_us = NULL,
        last_error = :reason, updated_on_us = :now
    WHERE messenger_row = :messenger_row AND state = 'pending' AND message_type IS :kind
        AND created_on_us < :before
        AND (claimed_until_us IS NULL OR claimed_until_us NOT BETWEEN :now + 1 AND :lease_end)
"""

# Removal: messages that nobody waits for

_NOBODY_WAITS = """
        AND NOT EXISTS (
            SELECT 1 FROM delivery d
            WHERE d.message_row = m.row
                AND (d.state = 'dead' OR d.state = 'expired' AND d.updated_on_us >= :before)
        )
        AND (
            m.is_closed
            OR NOT EXISTS (
                SELECT 1 FROM json_each(:messengers) n
                WHERE NOT EXISTS (
                    SELECT 1 FROM messenger s
                        JOIN delivery d ON d.messenger_row = s.row AND d.message_row = m.row
                    WHERE s.name = n.value AND d.state IN ('acknowledged', 'expired')
                )
            )
        )
"""

REMOVABLE = f"""
    SELECT m.row FROM message m INDEXED BY message_acknowledged
    WHERE m.is_acknowledged = 1 AND m.created_on_us < :before {_NOBODY_WAITS}
    ORDER BY m.created_on_us
    LIMIT :limit
"""  # noqa: S608 - constants of this file

REMOVABLE_UNSENT = f"""
    SELECT DISTINCT m.row
    FROM delivery e INDEXED BY delivery_expired CROSS JOIN message m ON m.row = e.message_row
    WHERE e.state = 'expired' AND m.is_acknowledged = 0 AND m.created_on_us < :before
        {_NOBODY_WAITS}
    ORDER BY e.message_row
    LIMIT :limit
"""  # noqa: S608 - constants of this file

REMOVE = (
    "DELETE FROM response WHERE message_row IN (SELECT value FROM json_each(:rows))",
    "DELETE FROM delivery WHERE message_row IN (SELECT value FROM json_each(:rows))",
    "DELETE FROM message WHERE row IN (SELECT value FROM json_each(:rows))",
)

# Responses

ADD_RESPONSE = """
    INSERT INTO response (message_row, messenger_row, status, content, received_on_us)
    VALUES (:message_row, :messenger_row, :status, :content, :received_on)
"""

RESPONSES = """
    SELECT status, content, received_on_us FROM response
    WHERE message_row = :message_row
    ORDER BY row
"""
