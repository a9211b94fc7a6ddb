SELECT user_id, SUM(points) AS score
FROM answers
WHERE quiz_id = ? AND user_id IN (SELECT user_id FROM users WHERE league_id = ?)
GROUP BY user_id
ORDER BY score DESC, user_id
LIMIT 10
