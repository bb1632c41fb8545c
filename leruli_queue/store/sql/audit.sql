-- name: insert_audit_entry!
INSERT INTO audit (group_id, actor_id, action, subject, detail)
VALUES (:group_id, :actor_id, :action::audit_action, :subject, :detail);

-- name: audit_page
-- Newest first.
SELECT a.id, a.at, u.name AS actor, a.action, a.subject, a.detail
FROM audit a LEFT JOIN users u ON u.id = a.actor_id
WHERE a.group_id = :group_id AND a.action = ANY(:actions::audit_action[])
  AND (:before_id::bigint IS NULL OR a.id < :before_id)
  AND (:since::timestamptz IS NULL OR a.at >= :since)
  AND (:until::timestamptz IS NULL OR a.at < :until)
ORDER BY a.id DESC
LIMIT :limit;
