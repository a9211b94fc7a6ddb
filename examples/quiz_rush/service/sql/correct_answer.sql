SELECT correct FROM questions WHERE quiz_id = ? AND question_id = ?
