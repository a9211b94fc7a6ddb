SELECT question_id, correct FROM questions WHERE quiz_id = ?
