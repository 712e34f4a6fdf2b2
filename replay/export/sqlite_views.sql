-- Indexes and views over the tables of an exported trace; docs/export.md shows them in use.
CREATE INDEX msi_result_of ON msi_result (seq - cause);
CREATE INDEX lpi_of ON lpi (seq - cause);
CREATE VIEW registers AS
  SELECT seq, 'write' AS access, register, offset, value, size, origin, NULL AS cpu FROM reg_write
  UNION ALL SELECT seq, 'read', register, offset, value, size, origin, NULL FROM reg_read
  UNION ALL SELECT seq, 'write', register, offset, value, size, origin, cpu FROM gicr_write
  UNION ALL SELECT seq, 'read', register, offset, value, size, origin, cpu FROM gicr_read;
CREATE VIEW msis AS
  SELECT msi.seq, msi.device_id, msi.event_id, msi.path, msi_result.result, lpi.intid, lpi.cpu
  FROM msi
  LEFT JOIN msi_result ON msi_result.cause > 0 AND msi_result.seq - msi_result.cause = msi.seq
  LEFT JOIN lpi ON lpi.cause > 0 AND lpi.seq - lpi.cause = msi.seq;
CREATE VIEW boots AS
  SELECT seq, how, (SELECT count(*) FROM reset AS earlier WHERE earlier.seq <= reset.seq) AS boot
  FROM reset;
CREATE VIEW attributes AS
  SELECT events.seq, events.kind, attr_result.errno
  FROM attr_result JOIN events ON events.seq = attr_result.seq - attr_result.cause
  WHERE attr_result.cause > 0;
