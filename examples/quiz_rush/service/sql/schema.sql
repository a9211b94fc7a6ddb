CREATE TABLE users (
    user_id   INTEGER PRIMARY KEY,
    league_id INTEGER NOT NULL
);

CREATE INDEX users_by_league ON users (league_id);

CREATE TABLE questions (
    quiz_id     INTEGER NOT NULL,
    question_id INTEGER NOT NULL,
    correct     TEXT    NOT NULL,
    PRIMARY KEY (quiz_id, question_id)
) WITHOUT ROWID;

CREATE TABLE answers (
    quiz_id     INTEGER NOT NULL,
    user_id     INTEGER NOT NULL,
    question_id INTEGER NOT NULL,
    answer      TEXT    NOT NULL,
    points      INTEGER NOT NULL,
    PRIMARY KEY (quiz_id, user_id, question_id)
) WITHOUT ROWID;
