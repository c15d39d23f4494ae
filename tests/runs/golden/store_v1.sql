BEGIN TRANSACTION;
CREATE TABLE metrics (
	run_id VARCHAR(12) NOT NULL, 
	seq BIGINT NOT NULL, 
	step BIGINT NOT NULL, 
	name TEXT NOT NULL, 
	value DOUBLE, 
	seconds DOUBLE NOT NULL, 
	PRIMARY KEY (run_id, seq)
)
 WITHOUT ROWID

;
INSERT INTO "metrics" VALUES('1qgv3mebqv1r',1,1,'loss',2.5,0.5);
INSERT INTO "metrics" VALUES('1qgv3mebqv1r',2,2,'loss',1.25,1.0);
CREATE TABLE runs (
	id VARCHAR(12) NOT NULL, 
	turn BIGINT NOT NULL, 
	home VARCHAR(32) NOT NULL, 
	kind TEXT NOT NULL, 
	name TEXT NOT NULL, 
	state VARCHAR(16) NOT NULL, 
	owner TEXT NOT NULL, 
	parent VARCHAR(12), 
	created DOUBLE NOT NULL, 
	started DOUBLE, 
	ended DOUBLE, 
	threads INTEGER NOT NULL, 
	device TEXT NOT NULL, 
	granted TEXT NOT NULL, 
	spec TEXT NOT NULL, 
	step BIGINT NOT NULL, 
	steps BIGINT NOT NULL, 
	result TEXT, 
	error TEXT NOT NULL, 
	cancel_requested BOOLEAN NOT NULL, 
	attempt INTEGER NOT NULL, 
	lease VARCHAR(32) NOT NULL, 
	heartbeat BIGINT NOT NULL, 
	pid BIGINT, 
	birth TEXT NOT NULL, 
	last_seq BIGINT NOT NULL, 
	truncations INTEGER NOT NULL, 
	PRIMARY KEY (id)
);
INSERT INTO "runs" VALUES('1qgv3mebqv1r',1,'0123456789abcdef','train','hymba_mini','DONE','Ada',NULL,1.79531070202921915054e+09,1.79531070203645896909e+09,1.79531070205271291737e+09,1,'auto','','{"architecture": "name: hymba-mini\n", "training": {"task": "digits_sequence", "steps": 2}}',2,2,'{"state": "DONE", "metrics": {"test_accuracy": 0.97}}','',0,1,'aaaaaaaaaaaaaaaa',1,100,'boot-1',2,0);
INSERT INTO "runs" VALUES('1qgv3mf9h53c',2,'0123456789abcdef','train','jamba_mini','INTERRUPTED','',NULL,1.79531070205807137488e+09,1.79531070206613063808e+09,1.79531070207461047167e+09,1,'auto','','{"training": {"task": "python_bytes"}}',40,100,NULL,'The worker process died after step 40.',0,1,'bbbbbbbbbbbbbbbb',1,101,'boot-2',0,0);
CREATE TABLE schema_version (
	version INTEGER NOT NULL, 
	PRIMARY KEY (version)
);
INSERT INTO "schema_version" VALUES(1);
CREATE INDEX runs_by_state ON runs (state, turn);
COMMIT;
