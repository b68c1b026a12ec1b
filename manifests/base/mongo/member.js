// Run by probes, in mongosh. Creates the replica set and its users where they are missing, and succeeds when clients
// can use this member. Does not change existing ones.
const { readFileSync } = require('node:fs');
const { hostname } = require('node:os');

const port = process.env.MONGO_PORT ?? '27017';
const members = process.env.MONGO_MEMBERS.split(',');
const secret = (name) => readFileSync(`${process.env.MONGO_SECRETS}/${name}`, 'utf8').trim();
const here = (path, login = '') => new Mongo(`mongodb://${login}127.0.0.1:${port}/${path}?directConnection=true`);

// The first member initiates the set. MongoDB refuses if another member belongs to a set already.
function initiate(admin) {
  if (members[0].split(/[.:]/)[0] !== (process.env.HOSTNAME ?? hostname())) return;
  const set = { _id: 'rs0', members: members.map((host, _id) => ({ _id, host })) };
  print(EJSON.stringify(admin.runCommand({ replSetInitiate: set })));
}

function canLogIn(database, user, password) {
  try {
    here(database, `${user}:${password}@`).getDB(database).runCommand({ ping: 1 });
    return true;
  } catch {
    return false;
  }
}

// While there is no user, a connection from this machine may create the first one.
function makeUsers(admin) {
  const [root, password] = [secret('root-password'), secret('password')];
  if (!canLogIn('admin', 'root', root)) admin.createUser({ user: 'root', pwd: root, roles: ['root'] });
  const database = here('admin', `root:${root}@`).getDB('godzilla');
  if (!database.getUser('godzilla')) database.createUser({ user: 'godzilla', pwd: password, roles: ['readWrite'] });
}

const admin = here('admin').getDB('admin');
const { isreplicaset: alone, isWritablePrimary, secondary } = admin.runCommand({ hello: 1 });
if (alone) initiate(admin);
if (isWritablePrimary && !canLogIn('godzilla', 'godzilla', secret('password'))) makeUsers(admin);
const usable = (isWritablePrimary || secondary) && canLogIn('godzilla', 'godzilla', secret('password'));
quit(usable ? 0 : 1);
