SELECT league_id FROM users WHERE user_id = ?
