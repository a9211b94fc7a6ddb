INSERT INTO answers (quiz_id, user_id, question_id, answer, points)
VALUES (?, ?, ?, ?, ?)
ON CONFLICT (quiz_id, user_id, question_id) DO UPDATE
SET answer = excluded.answer, points = excluded.points
