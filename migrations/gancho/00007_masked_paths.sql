-- The path of an endpoint's url may be what keeps others out: its public form, which is
-- not encrypted, and the audit log show of it what endpoint.MaskURL does.

-- +goose Up

-- A json is changed as a text: in some encodings of a database its escapes cannot be read.
-- +goose StatementBegin
CREATE FUNCTION gancho.mask_paths(document json) RETURNS json LANGUAGE sql AS $$
    SELECT pg_catalog.regexp_replace(pg_catalog.regexp_replace(document::text,
        '("url": ?"[^":/?]+://[^"/?\\]+/)([^"/?\\]|\\.){21,}([^"?\\]|\\.)*', '\1***', 'g'),
        '("url": ?"[^":/?]+://[^"/?\\]+/([^"/?\\]|\\.){0,20}/)([^"?\\]|\\.)+', '\1***', 'g')::json
$$;
-- +goose StatementEnd

UPDATE gancho.endpoints SET public = gancho.mask_paths(public)
    WHERE public::text <> gancho.mask_paths(public)::text;
UPDATE gancho.audit SET before = gancho.mask_paths(before), after = gancho.mask_paths(after)
    WHERE before::text <> gancho.mask_paths(before)::text OR after::text <> gancho.mask_paths(after)::text;

DROP FUNCTION gancho.mask_paths;
