BEGIN TRANSACTION;
CREATE TABLE epochs (
	feature_group TEXT NOT NULL, 
	epoch BIGINT NOT NULL, 
	generation BIGINT NOT NULL, 
	coverage BIGINT, 
	rows BIGINT NOT NULL, 
	written BIGINT NOT NULL, 
	synced_at BIGINT NOT NULL, 
	PRIMARY KEY (feature_group, epoch)
);
INSERT INTO "epochs" VALUES('spend',4,1,1767571200000001,5,2,1767571200000001);
CREATE TABLE feature_maps (
	features_id TEXT NOT NULL, 
	features TEXT NOT NULL, 
	PRIMARY KEY (features_id)
);
INSERT INTO "feature_maps" VALUES('27123a530a85c70e5284e6874382ecfe','{"spend_7d": "aa", "spend_1d": "bb"}');
CREATE TABLE files (
	source TEXT NOT NULL, 
	path TEXT NOT NULL, 
	sha256 TEXT NOT NULL, 
	rows BIGINT NOT NULL, 
	quarantined BIGINT NOT NULL, 
	ingest_id TEXT NOT NULL, 
	PRIMARY KEY (source, path)
);
INSERT INTO "files" VALUES('payments','data/ä b.csv','f00',10,1,'i1');
CREATE TABLE generations (
	feature_group TEXT NOT NULL, 
	number BIGINT NOT NULL, 
	features_id TEXT NOT NULL, 
	is_current BOOLEAN NOT NULL, 
	first_published_at BIGINT, 
	PRIMARY KEY (feature_group, number)
);
INSERT INTO "generations" VALUES('spend',1,'27123a530a85c70e5284e6874382ecfe',1,1767657600000001);
CREATE TABLE leases (
	name TEXT NOT NULL, 
	host TEXT NOT NULL, 
	boot TEXT NOT NULL, 
	pid BIGINT NOT NULL, 
	process_started BIGINT NOT NULL, 
	taken_at BIGINT NOT NULL, 
	PRIMARY KEY (name)
);
INSERT INTO "leases" VALUES('group spend','elsewhere','92a2d638-c0ec-4e5c-b375-8d4c643915e0',26029,178664,1767571200000001);
CREATE TABLE ledger (
	feature_group TEXT NOT NULL, 
	generation BIGINT NOT NULL, 
	start_at BIGINT NOT NULL, 
	end_at BIGINT NOT NULL, 
	state TEXT NOT NULL, 
	publish_id TEXT NOT NULL, 
	features_id TEXT NOT NULL, 
	gate TEXT NOT NULL, 
	revision BIGINT NOT NULL, 
	rows BIGINT NOT NULL, 
	delta_version BIGINT, 
	failed TEXT NOT NULL, 
	warned TEXT NOT NULL, 
	run_id TEXT NOT NULL, 
	seconds DOUBLE NOT NULL, 
	recorded_at BIGINT NOT NULL, 
	inputs TEXT, 
	PRIMARY KEY (feature_group, generation, start_at)
);
INSERT INTO "ledger" VALUES('spend',1,1767571200000001,1767574800000001,'PUBLISHED','p1','27123a530a85c70e5284e6874382ecfe','g',3,10,4,'[]','["spend_7d:at_least(0)"]','r',0.1,1767657600000001,NULL);
INSERT INTO "ledger" VALUES('spend',1,1767574800000001,1767578400000001,'REJECTED','p1','27123a530a85c70e5284e6874382ecfe','g',3,10,NULL,'["a"]','["spend_7d:at_least(0)"]','r',0.1,1767657600000001,'{"visits": "9"}');
CREATE TABLE pending (
	pending_id TEXT NOT NULL, 
	kind TEXT NOT NULL, 
	subject TEXT NOT NULL, 
	change TEXT NOT NULL, 
	PRIMARY KEY (pending_id)
);
INSERT INTO "pending" VALUES('i2','ingest','payments','{"files": [{"source": "payments", "path": "data/ä b.csv", "sha256": "f00", "rows": 10, "quarantined": 1, "ingest_id": "i1"}], "revisions": [{"source": "payments", "revision": 1, "date": "2026-01-05", "first_at": 1767571200000001, "end_at": 1767657600000001, "content_hash": "c", "rows": 7, "recorded_at": 1767657600000001}, {"source": "payments", "revision": 1, "date": "2026-01-06", "first_at": 1767571200000001, "end_at": 1767657600000001, "content_hash": "c", "rows": 7, "recorded_at": 1767657600000001}], "commits": false}');
INSERT INTO "pending" VALUES('p2','publish','spend','{"group": "spend", "generation": 2, "features_id": "27123a530a85c70e5284e6874382ecfe", "entries": [{"feature_group": "spend", "generation": 2, "start_at": 1767578400000001, "end_at": 1767582000000001, "state": "PUBLISHED", "publish_id": "p2", "features_id": "27123a530a85c70e5284e6874382ecfe", "gate": "g", "revision": 3, "rows": 10, "delta_version": null, "failed": "[]", "warned": "[\"spend_7d:at_least(0)\"]", "run_id": "r", "seconds": 0.1, "recorded_at": 1767657600000001, "inputs": null}], "publishes": [{"feature_group": "spend", "generation": 2, "publish_id": "p2", "start_at": 1767578400000001, "end_at": 1767582000000001, "known_from": 1767571200000001, "basis": "OBSERVED"}], "maps": {"27123a530a85c70e5284e6874382ecfe": {"spend_7d": "aa", "spend_1d": "bb"}}, "commits": true}');
CREATE TABLE promotions (
	feature_group TEXT NOT NULL, 
	number BIGINT NOT NULL, 
	generation BIGINT NOT NULL, 
	newest BIGINT NOT NULL, 
	promoted_by TEXT NOT NULL, 
	promoted_at BIGINT NOT NULL, 
	PRIMARY KEY (feature_group, number)
);
INSERT INTO "promotions" VALUES('spend',1,1,1,'person',1767571200000001);
CREATE TABLE publishes (
	feature_group TEXT NOT NULL, 
	generation BIGINT NOT NULL, 
	publish_id TEXT NOT NULL, 
	start_at BIGINT NOT NULL, 
	end_at BIGINT NOT NULL, 
	known_from BIGINT NOT NULL, 
	basis TEXT NOT NULL, 
	PRIMARY KEY (feature_group, generation, publish_id, start_at)
);
INSERT INTO "publishes" VALUES('spend',1,'p1',1767571200000001,1767574800000001,1767571200000001,'MODELLED');
CREATE TABLE registry_version (
	version BIGINT NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "registry_version" VALUES(3);
CREATE TABLE releases (
	feature_group TEXT NOT NULL, 
	generation BIGINT NOT NULL, 
	start_at BIGINT NOT NULL, 
	end_at BIGINT NOT NULL, 
	revision BIGINT NOT NULL, 
	reason TEXT NOT NULL, 
	released_at BIGINT NOT NULL, 
	PRIMARY KEY (feature_group, generation, start_at)
);
INSERT INTO "releases" VALUES('spend',1,1767574800000001,1767578400000001,3,'looked at it',1767571200000001);
CREATE TABLE revisions (
	source TEXT NOT NULL, 
	revision BIGINT NOT NULL, 
	date TEXT NOT NULL, 
	first_at BIGINT NOT NULL, 
	end_at BIGINT NOT NULL, 
	content_hash TEXT NOT NULL, 
	rows BIGINT NOT NULL, 
	recorded_at BIGINT NOT NULL, 
	PRIMARY KEY (source, revision, date)
);
INSERT INTO "revisions" VALUES('payments',1,'2026-01-05',1767571200000001,1767657600000001,'c',7,1767657600000001);
INSERT INTO "revisions" VALUES('payments',1,'2026-01-06',1767571200000001,1767657600000001,'c',7,1767657600000001);
CREATE TABLE tiles (
	path TEXT NOT NULL, 
	date TEXT NOT NULL, 
	table_id TEXT NOT NULL, 
	revision BIGINT NOT NULL, 
	states TEXT NOT NULL, 
	PRIMARY KEY (path, date)
);
INSERT INTO "tiles" VALUES('/lake/tiles','2026-01-05','t1',1,'["n", "s"]');
COMMIT;
